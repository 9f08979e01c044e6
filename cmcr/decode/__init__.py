"""Bytes of a stranger -> arrays: pictures, sounds, point clouds. Whatever is wrong with them becomes an ItemError."""
