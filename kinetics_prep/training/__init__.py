"""From shards to a trained model, and what it is worth: training, evaluation, prediction."""
