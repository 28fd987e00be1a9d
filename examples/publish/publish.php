<?php
// Publishes each line of its input from a PHP program that speaks no Socket.IO, over the HTTP API:
//
//	php publish.php orders http://127.0.0.1:7301 < lines        # HOLDPOST_API_KEY, if the server wants one

$topic = $argv[1] ?? 'orders';
$server = $argv[2] ?? 'http://127.0.0.1:7301';

// publish stores one event, and tries for a minute if need be. The id makes that safe: it is stored once.
function publish(string $server, string $topic, string $event, mixed ...$args): array
{
    $header = ['Content-Type: application/json'];
    if ($key = getenv('HOLDPOST_API_KEY')) {
        $header[] = "Authorization: Bearer $key";
    }
    $body = json_encode(['topic' => $topic, 'event' => $event, 'args' => $args, 'id' => bin2hex(random_bytes(16))]);
    $context = stream_context_create(['http' => ['method' => 'POST', 'header' => $header, 'content' => $body, 'timeout' => 10, 'ignore_errors' => true]]);
    for ($attempt = 0; $attempt < 8; $attempt++) {
        $http_response_header = null;
        $answer = @file_get_contents("$server/v1/publish", false, $context);
        $status = (int) (explode(' ', $http_response_header[0] ?? '')[1] ?? 599);
        if ($answer !== false && $status < 500) { // of errors that a second try does not mend the server says so by 4xx
            $answer = json_decode($answer, true);
            if ($status >= 400) {
                fwrite(STDERR, $answer['detail'] . "\n");
                exit(1);
            }
            return $answer;
        }
        usleep((int) (250_000 * 2 ** $attempt * mt_rand(500, 1500) / 1000));
    }
    fwrite(STDERR, "no answer from $server\n");
    exit(1);
}

while (($line = fgets(STDIN)) !== false) {
    $text = rtrim($line, "\n");
    echo 'stored at ', publish($server, $topic, 'created', ['text' => $text])['offset'], ": $text\n";
}
