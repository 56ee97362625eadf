import type { ServerOptions } from 'node:http2';
import { limits } from '../../limits/limits.ts';

/**
 * How many streams of a connection its client may reset, for Node's HTTP/2 servers of both edges.
 */
export const streamResetLimit: Pick<ServerOptions, 'streamResetBurst' | 'streamResetRate'> = {
  streamResetBurst: limits.streamResetBurst,
  streamResetRate: limits.streamResetsPerSecond,
};
