"""The prepared data set on disk: layout, recipe, plan, ledger, clip objects, shards, manifest."""
