"""saliencykit-live: a camera window that shows live what a classifier's decision rests on."""
