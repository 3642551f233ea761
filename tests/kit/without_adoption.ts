/** Has Deno adopt no sockets, as a later one may not. To be preloaded. */
import process from "node:process";

Object.defineProperty(process, "binding", { value: undefined });
