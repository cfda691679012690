"""What every room stands on: files, shards, processes, the network, errors, words in fields."""
