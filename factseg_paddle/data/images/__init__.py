"""Read and write image and mask files."""
