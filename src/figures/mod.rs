//! Draws plain figure data as SVG and PNG, the same bytes each time.
