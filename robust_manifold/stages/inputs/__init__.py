"""What the stages of a run are given: its images, its networks, their dependencies."""
