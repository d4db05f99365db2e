"""The leaderboard of defences at inference time: entries, scores, challenges."""
