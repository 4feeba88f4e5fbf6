"""Drawing: result files in, figures and a report out."""
