"""Data: palettes, transforms, image files and synthetic scenes; numpy and OpenCV only."""
