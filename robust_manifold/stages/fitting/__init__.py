"""The stages that train networks."""
