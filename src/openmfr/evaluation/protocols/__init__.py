"""Published test sets, each read from the files its authors published."""
