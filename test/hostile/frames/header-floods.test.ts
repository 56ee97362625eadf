import { afterAll, beforeAll, describe, test } from 'vitest';
import { limits } from '../../../src/limits/limits.ts';
import { edges, portOf } from '../calls.ts';
import { HostileSite } from '../hostile-site.ts';
import { flood, headersOf, wholeCall, type Flood } from './flood.ts';
import { frame } from './frames.ts';

const timeout = 240_000;
const blockBytes = 15_000;
let hostile: HostileSite;
beforeAll(async () => {
  hostile = await HostileSite.open();
}, timeout);
afterAll(() => hostile.close(), timeout);

/** So many copies as a frame takes behind the headers of a call. */
const filled = (piece: Buffer): Buffer => Buffer.alloc(blockBytes - (blockBytes % piece.length), piece);

/** Headers that the table of the connection keeps. It has room for a hundred of them. */
const kept = filled(Buffer.from([0x40, 1, 0x78, 1, 0x61]));
/** A header of Node's static table, in one byte. */
const ofStaticTable = filled(Buffer.from([0x8f]));
/** A header whose value is in Huffman's code: 8 bits a character, so that each byte is decoded. */
const huffman = filled(Buffer.from([0, 1, 0x78, 0x88, 0xf8, 0xf8, 0xf8, 0xf8, 0xf8, 0xf8, 0xf8, 0xf8]));
/** As many as a request may have. */
const most = ofStaticTable.subarray(0, limits.requestHeadersMax - 8);
/** The table is emptied, and has its whole size again. */
const resized = filled(Buffer.from([0x20, 0x3f, 0xe1, 0x1f]));

const calls = (name: string, block: Buffer, before = false): Flood => ({
  name,
  first: () => Buffer.alloc(0),
  more: (edge, index) => {
    const headers = before ? [block, headersOf(edge)] : [headersOf(edge), block];
    return wholeCall(index, Buffer.concat(headers));
  },
});

const floods: readonly Flood[] = [
  calls('headers that the table keeps and forgets', kept),
  calls('thousands of headers of a byte', ofStaticTable),
  calls('calls with as many headers as they may have', most),
  calls("headers in Huffman's code", huffman),
  calls('changes of the size of the table', resized, true),
  {
    name: 'calls whose headers come in as many frames as they may',
    first: () => Buffer.alloc(0),
    more: (edge, index) => {
      const stream = 2 * index + 1;
      const parts = Array.from({ length: 6 }, () => frame(9, 0, stream, kept.subarray(0, 2_000)));
      return Buffer.concat([frame(1, 1, stream, headersOf(edge)), ...parts, frame(9, 4, stream, Buffer.alloc(0))]);
    },
  },
];

describe.each(edges)('a connection to %s', (edge) => {
  test.each(floods)('a flood of $name keeps nobody else waiting', { timeout }, async (one) => {
    await hostile.attack(async ({ broker }) => {
      await flood(portOf(broker, edge), edge, one);
    });
  });
});
