"""The heart: nodes, edges and proxies, the graph that holds them, and how two graphs are aligned."""
