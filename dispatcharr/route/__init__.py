"""Station 6: what each backend would take, and which one gets the work."""
