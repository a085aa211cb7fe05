"""A trained model in use: segmenter, masks, thresholds, folders of images, export."""
