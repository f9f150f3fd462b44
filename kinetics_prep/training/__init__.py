"""From shards to a trained model, and what it is worth: input, training, evaluation, prediction."""
