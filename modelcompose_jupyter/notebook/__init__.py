"""The notebook's surface: the magics, and how runs are shown in a cell."""
