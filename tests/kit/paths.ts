/** Files and folders that tests look for. */

/** Whether a path exists, also as a link that leads nowhere. */
export function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch {
    return false;
  }
}
