'use strict';
// A NoService client over TCP, written by hand from the description of the wire: chunks, and SP as the original does it.

const crypto = require('crypto');
const net = require('net');
const { tell, obey } = require('./lines');
const { pack, unpack, length16 } = require('./packets');

let socket;
let pem;
let key;
let input = Buffer.alloc(0);

function send(message) {
    if (key !== undefined) {
        const iv = crypto.randomBytes(16);
        const cipher = crypto.createCipheriv('aes-256-cbc', key, iv);
        const salted = Buffer.concat([crypto.randomBytes(64), message]);
        message = Buffer.concat([iv, cipher.update(salted), cipher.final()]);
    }
    // Header and body in one write, as every client of the original does.
    socket.write(Buffer.concat([length16(message.length), message]));
}

function receive(message) {
    if (message.toString() === 'HB') return tell('heartbeat', {});
    if (key !== undefined) {
        const decipher = crypto.createDecipheriv('aes-256-cbc', key, message.subarray(0, 16));
        message = Buffer.concat([decipher.update(message.subarray(16)), decipher.final()]).subarray(64);
    }
    const packet = unpack(message);
    if (packet.letters === 'SPrq') pem = packet.json.p;
    tell('packet', packet);
}

obey({
    connect(command) {
        socket = net.connect({ host: '127.0.0.1', port: command.port }, () => tell('connected', {}));
        socket.on('data', (data) => {
            input = Buffer.concat([input, data]);
            while (input.length >= 16) {
                const end = 16 + Number(input.subarray(0, 16).toString());
                if (input.length < end) break;
                const message = input.subarray(16, end);
                input = input.subarray(end);
                receive(message);
            }
        });
        socket.on('error', (error) => tell('error', { code: error.code }));
        socket.on('close', () => tell('close', {}));
    },

    /** What the original never sends, and every daemon ignores. */
    probe() {
        send(Buffer.from('GTrs'));
    },

    /** Answers SP with a seed: a number, as the original draws it, or a text. */
    secure(command) {
        const seed = command.r;
        const agreed = crypto.createHash('sha256').update(pem + String(seed)).digest('base64').slice(0, 32);
        const plain = Buffer.from(JSON.stringify({ r: seed, a: command.wrong ? 'x' : agreed }));
        const sealed = crypto.publicEncrypt(pem, plain).toString('base64'); // OAEP with SHA-1, which is the default
        send(pack('SPrs', sealed));
        key = Buffer.from(agreed);
        tell('answered', {});
    },

    say(command) {
        const blob = command.blob === undefined ? undefined : Buffer.from(command.blob, 'hex');
        send(pack(command.letters, command.json, blob));
    },
});
