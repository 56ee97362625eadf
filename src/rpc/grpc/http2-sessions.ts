import type { Http2Server, ServerHttp2Session, ServerOptions } from 'node:http2';
import type { Socket } from 'node:net';
import type { Server } from '@grpc/grpc-js';
import { limits } from '../../limits/limits.ts';
import type { Connections } from '../connections/connections.ts';
import { sessionLimits } from '../connections/session-limits.ts';
import type { StreamGate } from './stream-gate.ts';

/**
 * The HTTP/2 connections of a grpc-js server, for six things that grpc-js cannot do:
 *
 * - limits of headers, settings, pings and invalid frames, and one of cancelled calls that suits a
 *   gateway: Node's own, 1,000 at once and 33 a second, ends connections of ordinary clients;
 * - a gate that sees each stream before grpc-js does (stream-gate.ts);
 * - a limit of connections, before they cost an HTTP/2 session;
 * - cutting them off: `forceShutdown` forgets them when channelz is off;
 * - keeping their native parts for as long as those of their streams (native-sessions.ts);
 * - distinguishing a client that cancels a stream from a lost connection: the stream ends alike.
 *
 * They are reached by private fields. Without these fields the server does not start, because its
 * limits would not hold.
 */
export class Http2Sessions {
  readonly #gate: StreamGate | null;
  readonly #connections: Connections | null;
  readonly #open = new Set<ServerHttp2Session>();
  /** By the address of the peer, as `getPeer` has it. */
  readonly #byPeer = new Map<string, ServerHttp2Session>();

  constructor(gate: StreamGate | null, connections: Connections | null) {
    this.#gate = gate;
    this.#connections = connections;
  }

  /** To be called before the server is bound. */
  prepare(server: Server): void {
    const { commonServerOptions } = server as unknown as { readonly commonServerOptions?: ServerOptions };
    if (commonServerOptions === undefined) throw new Error('grpc-js has no field commonServerOptions');
    const settings = { ...commonServerOptions.settings, maxHeaderListSize: limits.requestHeaderBytesMax };
    Object.assign(commonServerOptions, sessionLimits, { settings });
  }

  /**
   * To be called as soon as the server is bound.
   * @throws Error
   */
  attach(server: Server): void {
    const { http2Servers } = server as unknown as { readonly http2Servers?: Map<Http2Server, unknown> };
    if (!(http2Servers instanceof Map)) throw new Error('grpc-js has no field http2Servers');
    for (const http2Server of http2Servers.keys()) {
      if (this.#connections !== null) limitConnections(http2Server, this.#connections);
      this.#gate?.attach(http2Server);
      this.#connections?.turns.attach(http2Server);
      this.#connections?.natives.attach(http2Server);
      http2Server.on('session', (session) => {
        this.#track(session);
        this.#gate?.opened(session);
      });
    }
  }

  /** Whether the connection of the peer is open: one that is closing is still. */
  isConnected(peer: string): boolean {
    return this.#byPeer.get(peer)?.destroyed === false;
  }

  destroyAll(): void {
    for (const session of this.#open) session.destroy();
  }

  #track(session: ServerHttp2Session): void {
    const { remoteAddress, remotePort } = session.socket;
    const peer = `${remoteAddress}:${remotePort}`;
    this.#open.add(session);
    this.#byPeer.set(peer, session);
    session.once('close', () => {
      this.#open.delete(session);
      if (this.#byPeer.get(peer) === session) this.#byPeer.delete(peer);
    });
  }
}

function limitConnections(server: Http2Server, connections: Connections): void {
  const served = server.listeners('connection') as ((socket: Socket) => void)[];
  if (served.length === 0) throw new Error('the HTTP/2 server does not listen to its connections');
  server.removeAllListeners('connection');
  server.on('connection', (socket: Socket) => {
    if (connections.admitted(socket)) for (const serve of served) serve.call(server, socket);
  });
}
