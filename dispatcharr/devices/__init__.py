"""Devices beside the host: what they are, how they are reached, and which one this process has."""
