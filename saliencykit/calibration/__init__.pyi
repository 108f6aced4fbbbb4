from .calibrate_masker import calibrate as calibrate
