"""Quality of image sets: distances between feature distributions, nearest neighbours, hashes."""
