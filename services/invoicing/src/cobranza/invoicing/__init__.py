"""Documents: customers, invoices, instalments, credit notes and the due-date calendar."""
