"""What every package uses and no package owns: errors, files, the console."""
