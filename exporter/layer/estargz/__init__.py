"""eStargz: gzip layers from which single files can be fetched."""
