"""Data cleaning: centres, outliers, flips, split identities, and every decision undoable."""
