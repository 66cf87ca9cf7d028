/**
 * What arrives on a socket goes straight to where it belongs: long payloads into their request's buffer,
 * the rest by way of one piece of memory that all connections share.
 *
 * A plain 'data' event brings a fresh buffer of 64 KiB each time, which costs more than what is done with it:
 * memory to be mapped, cleared and collected, thousands of times a second. Node reads into memory of ours
 * where a socket is made with `onread`; a server's sockets are made without. So the connection is handed
 * over to a socket that we make. How that is done Node does not document: where it does not
 * work, 'data' events are taken as they come.
 */
import * as net from 'node:net';
import { KIB } from '../base/bytes.js';
import type { Intake } from './intake.js';

/** For what is not read into its place. What is in it is used, or copied, before anybody reads again. */
const SHARED: Buffer = Buffer.allocUnsafeSlow(128 * KIB);

/** A socket as `net.Server` gives it, and what belongs to the connection itself. */
type Accepted = net.Socket & { _handle?: { useUserBuffer?: unknown } | null };

interface Adoption extends net.SocketConstructorOpts {
  readonly handle: object;
  readonly onread: net.OnReadOpts;
}

/**
 * Feeds `intake` with what arrives at `accepted`, a socket that nothing has been read from; `onMoved` is
 * called each time. Returns the socket to use from then on.
 */
export function receive(accepted: net.Socket, intake: Intake, onMoved: () => void): net.Socket {
  const socket: net.Socket = adopt(accepted, {
    buffer: () => intake.space() ?? SHARED,
    callback: (bytes, into) => {
      onMoved();
      if (into === SHARED) intake.push(SHARED.subarray(0, bytes));
      else intake.filled(bytes);
      if (intake.idle) socket.pause();
      return true;
    },
  });
  if (socket !== accepted) return socket;
  socket.on('data', (chunk: Buffer) => {
    onMoved();
    intake.push(chunk);
    if (intake.idle) socket.pause();
  });
  return socket;
}

/** A socket over the same connection that reads as `onread` says; the same one where that is not possible. */
function adopt(accepted: Accepted, onread: net.OnReadOpts): net.Socket {
  const handle = accepted._handle;
  if (typeof handle?.useUserBuffer !== 'function') return accepted;
  const adoption: Adoption = { handle, onread, allowHalfOpen: accepted.allowHalfOpen };
  const socket = new net.Socket(adoption);
  accepted._handle = null;
  accepted.destroy();
  return socket;
}
