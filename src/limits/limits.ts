/**
 * Every limit and default of Millrace, by name, in one place. The proto comments quote them by
 * these names (in snake_case) and a test compares the two. Units stand last in the name.
 */
export const limits = {
  /** Characters of a topic, group or client name. */
  nameCharsMax: 200,
  memberIdCharsMax: 260,
  descriptionCharsMax: 1_000,
  pageTokenCharsMax: 400,
  pageSizeMax: 1_000,
  pageSizeDefault: 100,
  /**
   * The entries of one page, in protobuf or in JSON. It leaves room for what stands beside them in
   * a message.
   */
  pageBytesMax: 3_407_872,
  /** Topics of a group in a list of groups, and partitions of a member wherever it is shown. */
  listedTopicsMax: 100,
  listedPartitionsMax: 1_000,
  /** States in the filter of ListGroups and of ListSubscriptions. */
  listStatesMax: 10,

  /** One record: key, value, headers and idempotency key together. */
  recordBytesMax: 1_048_576,
  recordKeyBytesMax: 1_024,
  recordHeadersMax: 64,
  recordHeaderBytesMax: 32_768,
  idempotencyKeyBytesMax: 256,
  /** One publish request. */
  publishRecordsMax: 10_000,
  publishBytesMax: 4_194_304,

  partitionsDefault: 3,
  partitionsMax: 1_000,
  idempotencyWindowMsDefault: 120_000,
  idempotencyWindowMsMin: 1_000,
  idempotencyWindowMsMax: 86_400_000,

  /** One row of record_batches. */
  storedBatchBytesMax: 1_048_576,
  /** Publishes until their commit, in bytes; beyond it PUBLISH_QUEUE_FULL. */
  publishQueueBytesMax: 67_108_864,
  /** Recently appended batches kept in memory, encoded. */
  tailCacheBytesMax: 67_108_864,
  /** Batches read from the database and not delivered yet, of all cursors of all groups. */
  feedBytesMax: 33_554_432,
  /** Older batches that were read last, for the next ones who read them. */
  readCacheBytesMax: 16_777_216,
  /** One fetch of older batches from the database. */
  readFetchBytesMax: 1_048_576,
  /** Neighbouring small batches read from the database are delivered together up to this size. */
  deliveryChunkBytes: 262_144,
  /** The largest gRPC message of the broker (every client's default limit is 4 MiB). */
  messageBytesMax: 3_670_016,
  /** The bytes of such a message that answers with records keep free for names and attempts. */
  recordsHeadBytesMax: 65_536,
  /**
   * The records of one answer in JSON, in the bytes that they have in protobuf. A character of a
   * text may need six bytes in JSON for one.
   */
  jsonRecordsBytesMax: 600_000,
  segmentBytesMax: 268_435_456,
  segmentAgeMsMin: 60_000,
  segmentAgeMsMax: 86_400_000,

  /** Every time for which a topic keeps records. */
  retentionMsMin: 60_000,
  retentionMsMax: 3_153_600_000_000,
  afterCompletionMsDefault: 604_800_000,
  excusedKeepMsDefault: 604_800_000,
  keepUnsubscribedMsDefault: 86_400_000,
  /** How long the audit of drops and of ended subscriptions is kept. */
  auditKeptMs: 7_776_000_000,
  /** Drops of a topic, and what keeps its segments, in one answer. */
  dropsListedMax: 100,
  keptByMax: 1_000,
  /** Logs of a drop that name their offsets. */
  droppedRangesMax: 100,

  memberTopicsMax: 100,
  /** Topics of all members of a group together. */
  groupTopicsMax: 1_000,
  groupMembersMax: 1_000,
  /** Few enough that the names of all assignors fit into the trailers of an error. */
  assignorModulesMax: 10,
  memberMetadataBytesMax: 65_536,
  clientAssignorsMax: 10,
  planPartitionsMax: 100_000,
  maxInFlightRecordsDefault: 1_000,
  maxInFlightRecordsMax: 10_000,
  maxInFlightBytesDefault: 8_388_608,
  maxInFlightBytesMax: 67_108_864,
  /** Written to a stream and not yet taken by its socket. */
  streamUnsentBytesMax: 1_048_576,
  /** What the transport keeps for each event or answer of a stream beside its bytes. */
  unsentEventBytes: 512,
  /** A stream ends when bytes wait for its client, and it takes none of them, for so long. */
  slowReaderMs: 60_000,
  /** The client of an ended stream must go on taking what waits, or the stream is cut off. */
  endedStreamMs: 5_000,
  /** Partitions of one Assigned with changes, and of one Revoking. More come in the next one. */
  assignedPartBytesMax: 262_144,
  /** Delivered and not acked, of one cursor. */
  cursorInFlightRecordsMax: 10_000,
  /** Runs of acked offsets above the committed one, of one cursor. */
  cursorRangesMax: 1_000,
  /** Runs of records with the same number of ended attempts, of one cursor. */
  cursorAttemptRunsMax: 1_000,

  sessionTimeoutMsMin: 6_000,
  sessionTimeoutMsMax: 1_800_000,
  sessionTimeoutMsDefault: 30_000,
  heartbeatIntervalMs: 3_000,
  rebalanceTimeoutMsDefault: 60_000,
  rebalanceTimeoutMsMin: 1_000,
  rebalanceTimeoutMsMax: 3_600_000,
  maxPollIntervalMsDefault: 300_000,
  maxPollIntervalMsMin: 1_000,
  maxPollIntervalMsMax: 86_400_000,
  /**
   * At least so long from one rebalance of a group to the next: what calls for it meanwhile goes
   * together in one.
   */
  rebalanceGatherMs: 50,
  /** Rebalances of a group that can be read back. */
  rebalancesKept: 100,
  syncWaitMsDefault: 30_000,
  syncWaitMsMax: 300_000,

  pullRecordsDefault: 100,
  pullRecordsMax: 10_000,
  pullBytesDefault: 1_048_576,
  pullBytesMax: 3_670_016,
  pullWaitMsMax: 60_000,
  pullLeaseMs: 30_000,
  /** Gaps in one answer of Pull. The others come in the next ones. */
  pullGapsMax: 100,
  /** Pulls of one member that are under way at the same time. */
  memberPullsMax: 10,
  readRecordsDefault: 100,
  readRecordsMax: 10_000,
  readBytesDefault: 1_048_576,
  readBytesMax: 3_670_016,

  ackEntriesMax: 10_000,
  ackOffsetsMax: 10_000,
  ackRangesMax: 1_000,
  nackDelayMsMax: 86_400_000,
  nackBackoffMsDefault: 1_000,
  nackBackoffMsMax: 60_000,
  nackErrorCharsMax: 1_000,
  /** What clients say of their NACKs: lines in the log, of one group and second. */
  nackLogLinesMax: 10,
  heartbeatPartitionsMax: 10_000,

  /** Entries of one CommitOffsets, partitions of one FetchOffsets and of one ResetOffsets. */
  commitOffsetsMax: 10_000,
  fetchOffsetsMax: 10_000,
  resetPartitionsMax: 10_000,
  resetTopicsMax: 1_000,
  /** What one commit notes of one partition. */
  offsetMetadataBytesMax: 4_096,
  /** How long a group without members keeps its offsets; 0: for ever. */
  offsetRetentionMs: 604_800_000,

  /** How long a subscription without a member lives. */
  deadAfterMsDefault: 240_000,
  deadAfterMsMin: 30_000,
  deadAfterMsMax: 31_536_000_000,

  /** Errors travel in trailers, of which clients take 8 KiB: a few violations, and short texts. */
  errorViolationsMax: 10,
  errorTextCharsMax: 150,
  /**
   * Entries of one list or map in all of a request, counted before the request is decoded. It is
   * twice the limit of the largest list, so that the rules of the fields answer small excesses.
   */
  requestEntriesMax: 20_000,
  planEntriesMax: 200_000,
  /** Offsets of single partitions in one start position, whatever `partitionsMax` is. */
  startPartitionsMax: 100_000,
  /**
   * What a request becomes, once decoded, is not counted beside its call up to so many bytes, nor
   * is the first piece of a body.
   */
  uncountedRequestBytesMax: 4_096,
  /** Pieces in which one request may come, and one more for each KiB of it. */
  messagePiecesMax: 1_024,
  /** Levels of messages in each other in one request. */
  requestDepthMax: 32,
  /** A Publish in JSON, which needs more bytes than in protobuf. */
  jsonPublishBytesMax: 8_388_608,
  /** Any other request in JSON. */
  jsonRequestBytesMax: 1_048_576,
  /** Entries of all lists, and keys of all objects, of one request in JSON. */
  jsonElementsMax: 50_000,
  jsonKeysMax: 250_000,
  /** One text in JSON: a record of 3 MiB in base64, and some more. */
  jsonTextBytesMax: 4_300_000,
  /**
   * What one step of a decoder or an encoder takes at most, in bytes and in entries of lists. Other
   * work of the broker has its turn between two steps.
   */
  bytesAtOnceMax: 65_536,
  entriesAtOnceMax: 2_000,
  /**
   * Requests of one PublishStream that have not been answered yet; beyond it the stream is not
   * read.
   */
  publishStreamPendingMax: 1_000,
  publishStreamPendingBytesMax: 4_194_304,
  /** HTTP/2 window of a connection that publishes, and of its streams, for what clients send. */
  receiveWindowBytes: 4_194_304,
  /** A publish of more bytes shows that its connection needs a wide window. */
  wideFromBytes: 16_384,
  /**
   * Calls that a client may cancel on one connection: so many at once, and so many a second. Each
   * Pull that a gateway gives up for its consumer is one. Beyond it the connection is closed, since
   * each call costs the broker more than the client.
   */
  streamResetBurst: 20_000,
  streamResetsPerSecond: 2_000,
  /**
   * Streams that end before the broker has begun with them: of one connection, and of all. Beyond
   * either the connection is closed. One that has made so few lately is not asked for the others.
   */
  earlyResetBurst: 1_000,
  earlyResetsPerSecond: 100,
  allEarlyResetBurst: 2_000,
  allEarlyResetsPerSecond: 500,
  freeEarlyResets: 20,
  /** New streams of all connections that are served in one turn of the event loop. */
  streamsAtOnceMax: 64,
  /**
   * Bytes of bodies that come in one turn of the event loop, of all connections. Beyond that, one
   * that has brought its own part is not read on in the turn.
   */
  allReadAtOnceBytes: 1_048_576,
  readAtOnceBytes: 262_144,
  /** Headers of one request, and their bytes as HTTP/2 counts them (32 for each header). */
  requestHeadersMax: 64,
  requestHeaderBytesMax: 16_384,
  /** Of one HTTP/2 connection: entries of a SETTINGS frame, unanswered pings, invalid frames. */
  http2SettingsMax: 16,
  http2PingsMax: 10,
  http2InvalidFramesMax: 100,
  /** Calls and streams open on one connection, and what the broker counts for each of them. */
  grpcConnectionCallsMax: 1_000,
  httpConnectionCallsMax: 100,
  openCallBytes: 13_312,
  /** The same over HTTP, where connect-node keeps more for a call, and most for a stream. */
  openHttpCallBytes: 24_576,
  openHttpStreamBytes: 45_056,
  /** A request must be complete after this time, and so must each message of a PublishStream. */
  partialRequestMs: 30_000,
  /** What is still read of a refused request over HTTP, and dropped. */
  droppedBytesMax: 8_388_608,
  droppedPiecesMax: 10_000,
  /** A Subscribe stream over HTTP is cut off when its client takes nothing for this time. */
  unreadStreamMs: 65_000,
  /** How long a call waits for room for its answer, before its work. */
  answerRoomMs: 5_000,
  /**
   * An answer that its client has not read after this time ends its call. A large one has the time
   * that it takes at this speed.
   */
  unreadAnswerMs: 60_000,
  answerReadBytesPerSecond: 16_384,
  /** The name of a service that a health check asks for. */
  healthNameBytesMax: 200,
  /** Names in a question of server reflection, and answers that its client has not read. */
  reflectionNamesCharsMax: 1_000,
  reflectionUnsentBytesMax: 262_144,
  /** Questions of one stream that are answered before others have their turn. */
  reflectionQuestionsAtOnceMax: 10,
  /** A gRPC connection without a call is closed after this time. */
  idleConnectionMs: 300_000,
  /** A connection is pinged this often, and given up when the answer takes as long. */
  keepaliveMs: 10_000,

  /** Lines of the log that its reader has not taken; what comes beyond it is dropped. */
  logBytesMax: 1_048_576,
  /** How long the end of the process waits for a reader of the log. */
  logFlushMs: 1_000,
} as const;

/** The limits that an operator may change at start. */
export interface TunableLimits {
  readonly recordBytesMax: number;
  readonly publishQueueBytesMax: number;
  readonly tailCacheBytesMax: number;
  readonly streamUnsentBytesMax: number;
  readonly slowReaderMs: number;
  readonly groupMembersMax: number;
  readonly partitionsMax: number;
  readonly offsetRetentionMs: number;
}
