"""Everything Beam, and nothing else: the stages, the graph, the runners."""
