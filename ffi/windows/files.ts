/**
 * The {@linkcode FileCalls} on kernel32. A handle is put into the other process by its number.
 *
 * @module
 */
import type { FileAccess, FileCalls } from "../platform.ts";
import { encodeUtf16 } from "../library.ts";
import {
  clearInheritFlag,
  FILE_TYPE_PIPE,
  GENERIC_READ,
  handleFunctions,
  HandleReceiver,
  kernel32Functions,
  lastWinsockError,
} from "./libraries.ts";

const INVALID_HANDLE = 0xffff_ffff_ffff_ffffn;
const GENERIC_WRITE = 0x4000_0000;
/** `FILE_GENERIC_WRITE` without `FILE_WRITE_DATA`: every write is at the end. */
const APPEND_ONLY = 0x0012_0114;
const SHARE_ALL = 0x7;
const OPEN_EXISTING = 3;

const ERROR_HANDLE_EOF = 38;
const ERROR_SHARING_VIOLATION = 32;
const ERROR_BROKEN_PIPE = 109;

/** The pauses between looking whether a pipe has data, in milliseconds. There is no event for it. */
const FIRST_PAUSE_MS = 1;
const LAST_PAUSE_MS = 32;

const kernel32 = kernel32Functions({
  /** `HANDLE CreateFileW(LPCWSTR lpFileName, DWORD dwDesiredAccess, DWORD dwShareMode, LPSECURITY_ATTRIBUTES lpSecurityAttributes, DWORD dwCreationDisposition, DWORD dwFlagsAndAttributes, HANDLE hTemplateFile)` */
  CreateFileW: { parameters: ["buffer", "u32", "u32", "usize", "u32", "u32", "usize"], result: "usize" },
  /** `BOOL ReadFile(…)` on a pool thread */
  ReadFileElsewhere: {
    name: "ReadFile",
    parameters: ["usize", "buffer", "u32", "buffer", "usize"],
    result: "i32",
    nonblocking: true,
  },
  /** `BOOL WriteFile(HANDLE hFile, LPCVOID lpBuffer, DWORD nNumberOfBytesToWrite, LPDWORD lpNumberOfBytesWritten, LPOVERLAPPED lpOverlapped)` */
  WriteFile: { parameters: ["usize", "buffer", "u32", "buffer", "usize"], result: "i32" },
  /** `BOOL WriteFile(…)` on a pool thread */
  WriteFileElsewhere: {
    name: "WriteFile",
    parameters: ["usize", "buffer", "u32", "buffer", "usize"],
    result: "i32",
    nonblocking: true,
  },
});

/** Files and pipes of Windows. */
export const FILE_CALLS: FileCalls = {
  /** A locked file cannot be opened a second time. That belongs to the open file, in whichever process it is. */
  open(path, access) {
    const share = access.lock ? 0 : SHARE_ALL;
    const handle = kernel32().CreateFileW(encodeUtf16(path), accessOf(access), share, 0n, OPEN_EXISTING, 0, 0n);
    if (handle !== INVALID_HANDLE) return handle;
    const error = lastWinsockError(`open the file "${path}"`, "CreateFileW");
    if (error.code === ERROR_SHARING_VIOLATION && access.lock) return undefined;
    throw error;
  },

  adopt: clearInheritFlag,

  async read(handle, buffer) {
    const { GetFileType, ReadFile } = handleFunctions();
    const { ReadFileElsewhere } = kernel32();
    const count = new Uint32Array(1);
    const size = buffer.byteLength;
    const isPipe = GetFileType(handle) === FILE_TYPE_PIPE;
    if (isPipe ? !await hasData(handle) : await ReadFileElsewhere(handle, buffer, size, count, 0n) !== 0) {
      return count[0]!;
    }
    // In a pipe there is something; of a file the error was the pool thread's.
    if (ReadFile(handle, buffer, size, count, 0n) !== 0) return count[0]!;
    const error = lastWinsockError(`read file ${handle}`, "ReadFile");
    if (error.code === ERROR_HANDLE_EOF || error.code === ERROR_BROKEN_PIPE) return 0;
    throw error;
  },

  async write(handle, bytes) {
    const { WriteFile, WriteFileElsewhere } = kernel32();
    const count = new Uint32Array(1);
    if (await WriteFileElsewhere(handle, bytes, bytes.byteLength, count, 0n) !== 0) return count[0]!;
    if (WriteFile(handle, bytes, bytes.byteLength, count, 0n) !== 0) return count[0]!;
    throw lastWinsockError(`write to file ${handle}`, "WriteFile");
  },

  endWaits: (handle) => void waiting.delete(handle),

  close(handle) {
    const closed = handleFunctions().CloseHandle(handle);
    if (closed === 0) throw lastWinsockError(`close file ${handle}`, "CloseHandle");
  },

  share(handles, processId) {
    using receiver = new HandleReceiver(processId);
    return handles.map((handle) => Number(receiver.give(handle)));
  },

  receive: (numbers) => numbers.map(BigInt),
};

/** The pipes that a call waits for. */
const waiting = new Set<bigint>();

/** Waits until a pipe has data; returns `false` at its end, or when the wait is ended. */
async function hasData(handle: bigint): Promise<boolean> {
  const available = new Uint32Array(1);
  waiting.add(handle);
  for (let pause = FIRST_PAUSE_MS; waiting.has(handle); pause = Math.min(2 * pause, LAST_PAUSE_MS)) {
    const looked = handleFunctions().PeekNamedPipe(handle, 0n, 0, 0n, available, 0n);
    // Reading returns the error, or the end.
    if (looked === 0 || available[0]! > 0) return true;
    await new Promise((resolve) => setTimeout(resolve, pause));
  }
  return false;
}

function accessOf({ read, write, append }: FileAccess): number {
  return ((read ? GENERIC_READ : 0) | (append ? APPEND_ONLY : write ? GENERIC_WRITE : 0)) >>> 0;
}
