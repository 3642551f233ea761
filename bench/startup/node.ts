// What Deno's own node:net costs, on which connections are read and written.
import "node:net";
