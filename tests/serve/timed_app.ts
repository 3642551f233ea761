// The module `app.ts`, in a program that does something every minute.
export { default } from "./app.ts";

setInterval(() => {}, 60_000);
