"""Training: the losses of §4.4, the sampling of images and pairs, and the loop that survives being killed."""
