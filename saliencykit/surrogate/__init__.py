"""What fit_surrogate() is made of: masked pictures, the box's answers to them, the lesson, and how
far both disagree.
"""
