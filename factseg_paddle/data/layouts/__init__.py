"""Find the image and mask files of the data sets as they are published."""
