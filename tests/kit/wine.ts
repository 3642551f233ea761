/** Telling Wine from Windows. */

/** Whether this Windows is Wine: its ntdll says so. */
export function isWine(): boolean {
  try {
    Deno.dlopen("C:\\Windows\\System32\\ntdll.dll", { wine_get_version: { parameters: [], result: "usize" } }).close();
    return true;
  } catch {
    return false;
  }
}
