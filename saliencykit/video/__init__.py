"""What explain_frames and the command line do with moving pictures: reading, motion, cuts,
smoothing, drawing, writing.
"""
