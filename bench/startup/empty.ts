// What a start of Deno costs by itself.
export {};
