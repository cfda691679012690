"""A stage, and the plan that says which of its shards are stale."""
