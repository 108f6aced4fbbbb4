"""saliencykit-live: a camera window that shows what a classifier's decision rests on, as it looks."""
