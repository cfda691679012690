"""Stages: frozen dataclasses that make rows or add columns, a shard at a time."""
