// Records conversations of the npm package with itself, byte by byte, and beside them what its callers said.
//
//   npm install nossock@0.0.10 && node record.js > npm-0.0.10.json
//
// A relay between client and server keeps the bytes of each direction. The expected frames are made from the
// arguments of the calls and never from the bytes.
'use strict';

const net = require('net');
const nossock = require('nossock');

const hex = (buffer) => Buffer.from(buffer).toString('hex');

/** Wraps `send` of one side so that what its caller said is kept: the package's own answers pass through it too. */
function listen(side, said) {
  const send = side.send;
  side.send = (name, body) => {
    send.call(side, name, body);
    if (body instanceof Buffer) {
      said.push({ name, kind: 'raw', body_hex: hex(body) });
    } else {
      said.push({ name, kind: 'json', body_text: JSON.stringify(body) });
    }
  };
  side.on('error', () => {}); // a frame of this name would end the process
  side.on('', () => {});
}

/** Runs one conversation: `talk(client, server)` gives a promise of its end. */
function converse(talk) {
  return new Promise((resolve, reject) => {
    const bytes = { client: [], server: [] };
    const said = { client: [], server: [] };
    let client, server;
    const relay = net.createServer((near) => {
      const far = net.connect(target.address().port, '127.0.0.1');
      near.on('data', (data) => { bytes.client.push(data); far.write(data); });
      far.on('data', (data) => { bytes.server.push(data); near.write(data); });
      near.on('end', () => far.end());
      far.on('end', () => near.end());
      far.on('close', () => {
        target.close();
        relay.close();
        resolve({
          client: { bytes: hex(Buffer.concat(bytes.client)), frames: said.client },
          server: { bytes: hex(Buffer.concat(bytes.server)), frames: said.server },
        });
      });
    });
    const target = nossock.createServer((socket) => {
      server = socket;
      listen(server, said.server);
      // Both are there: `client` was made before the server saw its connection.
      talk(client, server).then(() => setTimeout(() => client.end(), 50), reject);
    });
    target.listen(0, '127.0.0.1', () => relay.listen(0, '127.0.0.1', () => {
      client = nossock.createClient({ port: relay.address().port, host: '127.0.0.1' }, () => {});
      listen(client, said.client);
    }));
  });
}

const ask = (socket, name, body) => new Promise((resolve) => {
  socket.sendReq(name, body, (error, value) => resolve([error, value]));
});

/** Asks until the id of a request is, or is not, one that the package's own matcher takes. */
async function askWithId(socket, name, body, wanted) {
  for (;;) {
    const send = socket.send;
    let kept;
    socket.send = (name, body) => { kept = [name, body]; };
    const answered = ask(socket, name, body);
    socket.send = send;
    if (wanted.test(kept[0].slice(kept[0].lastIndexOf(':') + 1))) {
      socket.send(...kept);
      return answered;
    }
  }
}
const WORD = /^\w+$/;
const HYPHEN = /-/;

const json = [
  null, true, false, 0, -1, 1.5, -0.000001, 1e21, 9007199254740993, '', 'world', 'Grüße, 世界 🦀', '"\\\n\u0000\u007f', [], {},
  [1, [2, [3, []]]], { a: { b: [null, { c: 'd' }] }, '': 0, 'ключ': 'значение' }, new Date(0), NaN,
];

const names = ['a', 'n'.repeat(255), 'a:b', 'req:', 'req:x', 'resp:y', 'error', 'close', '__proto__', 'with space', 'tab\tnewline\n', ''];

const conversations = {
  'hello and bye': async (client, server) => {
    server.on('hello', () => server.send('bye', 'cruel world'));
    client.send('hello', 'world');
    await new Promise((resolve) => client.on('bye', resolve));
  },
  'JSON of every type': async (client, server) => {
    for (const value of json) client.send('value', value);
    for (const value of json) server.send('value', value);
  },
  'names': async (client, server) => {
    for (const name of names) client.send(name, name.length);
    for (const name of names) server.send(name, Buffer.from([1, 2, 3]));
  },
  'buffers': async (client, server) => {
    client.send('empty', Buffer.alloc(0));
    client.send('one', Buffer.from([0]));
    client.send('every', Buffer.from(Array.from({ length: 256 }, (_, i) => i)));
    client.send('frame', Buffer.from('6a0568656c6c6f0000000722776f726c6422', 'hex'));
    server.send('control', Buffer.from('6300000000097b2270696e67223a377d', 'hex'));
    server.send('long', Buffer.alloc(1500, 0x6a));
  },
  'requests and answers': async (client, server) => {
    server.onReq('sum', (body, reply) => reply(null, body.reduce((a, b) => a + b, 0)));
    server.onReq('a:b', (body, reply) => reply(null, body));
    server.onReq('nothing', (body, reply) => reply());
    client.onReq('name', (body, reply) => reply(null, { first: 'Ada' }));
    await askWithId(client, 'sum', [1, 2, 3], WORD);
    await askWithId(client, 'a:b', { raw: false }, WORD);
    await askWithId(client, 'nothing', {}, WORD);
    await askWithId(server, 'name', null, WORD);
  },
  'answers that are errors': async (client, server) => {
    const errors = ['no money', { code: 'no_money', message: '0 left' }, 7, true, [], new Error('its text is lost')];
    const successes = [false, 0, '', null, undefined];
    server.onReq('pay', (body, reply) => {
      if (body.error !== undefined) reply(errors[body.error], 'ignored');
      else reply(successes[body.success], 'paid');
    });
    for (const error of errors.keys()) await askWithId(client, 'pay', { error }, WORD);
    for (const success of successes.keys()) await askWithId(client, 'pay', { success }, WORD);
  },
  'request with a hyphen in its id, which the package does not answer': async (client, server) => {
    server.onReq('sum', (body, reply) => reply(null, body));
    const answered = askWithId(client, 'sum', 1, HYPHEN);
    client.send('after', 1);
    await answered; // after 5 s, with an error
  },
};

/** What the package says that its own wire cannot carry. */
const faults = {
  'a name that is not ASCII': async (client) => client.send('é', 1),
  'a name of 300 letters': async (client) => client.send('n'.repeat(300), 1),
};

(async () => {
  const run = async (talks) => {
    const out = [];
    for (const [about, talk] of Object.entries(talks)) out.push({ about, ...await converse(talk) });
    return out;
  };
  const recording = {
    package: 'nossock@0.0.10',
    node: process.version,
    conversations: await run(conversations),
    faults: (await run(faults)).map(({ about, client }) => ({ about, bytes: client.bytes })),
  };
  console.log(JSON.stringify(recording, null, 1));
  process.exit(0);
})();
