"""Relations of batches whose nodes no rank can hold: blocks of targets pass from rank to rank."""
