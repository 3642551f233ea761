// Ends before it takes anything.
Deno.exit();
