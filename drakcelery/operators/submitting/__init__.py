"""Hands samples in: files, folders, patterns and zips, each checked before it is uploaded, none trusted."""
