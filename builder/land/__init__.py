"""What a tile is: classes, grid, rasters, pictures, columns, and the words for it."""
