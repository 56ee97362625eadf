import type { ServerOptions } from 'node:http2';
import { limits } from '../../limits/limits.ts';

/**
 * How many streams of a connection its client may reset, as Node's HTTP/2 servers take it; the same
 * on both edges.
 */
export const streamResetLimit: Pick<ServerOptions, 'streamResetBurst' | 'streamResetRate'> = {
  streamResetBurst: limits.streamResetBurst,
  streamResetRate: limits.streamResetsPerSecond,
};
