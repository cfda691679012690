"""Questions asked of trained models, arm by arm and seed by seed."""
