# Gradient descent down Rosenbrock's valley, for any program's sake: parameters come as -v
# options, a checkpoint lies where RUN_CHECKPOINT says, and each step is a line of JSON.
#
# optuna-deepweeds study run valley --space valley.toml --trials 30 \
#     --script 'awk -v rate={rate} -v momentum={momentum} -f valley.awk'
function tell() {
    value = (1 - x) ^ 2 + 100 * (y - x * x) ^ 2
    printf "{\"step\": %d, \"value\": %g}\n", step, value
    fflush()
}
BEGIN {
    file = ENVIRON["RUN_CHECKPOINT"]
    x = -1.2; y = 1
    if ((getline line < file) > 0) {
        split(line, saved)
        step = saved[1]; x = saved[2]; y = saved[3]; u = saved[4]; v = saved[5]
        tell()
    }
    while (step < ENVIRON["RUN_UNTIL"]) {
        for (i = 0; i < 20; i++) {
            u = momentum * u - rate * (400 * x * (x * x - y) - 2 * (1 - x))
            v = momentum * v - rate * 200 * (y - x * x)
            x += u; y += v
        }
        step++
        print step, x, y, u, v > (file ".part")
        close(file ".part")
        system("mv '" file ".part' '" file "'")
        tell()
    }
}
