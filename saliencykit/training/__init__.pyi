from .absent_labels import other_labels as other_labels
from .fit_masker import fit as fit
from .schedule import FitStep as FitStep
from .schedule import Schedule as Schedule
from .validation import ValidationReport as ValidationReport
from .validation import quarter_shares as quarter_shares
from .validation import top as top
from .validation import validate as validate
