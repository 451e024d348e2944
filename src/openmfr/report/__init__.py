"""Pages, plots and contact sheets: what shows results to a person, for all rooms."""
